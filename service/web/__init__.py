"""The web: what callers, providers and operators reach over HTTP, and the only place that knows status codes.

`jobs` and `content` serve callers, `callbacks` providers, `status` operators; `app` binds paths to them.
"""
