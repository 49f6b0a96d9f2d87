"""The status: `health` says whether the service can work, `overview` how it goes; `pages` shows it to who signed in.

`signing_in` opens sessions; `live` tells a page again when it changed; `asking` is what a request says about its
sender, `rendering` turns templates into pages, `writing` is how they write times and sums, `numbers` what the
statistics mean, `sparks` how they look; `faults` shows browsers what went wrong.
"""
