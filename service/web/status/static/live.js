// Keeps a page true while it is looked at: takes the parts that changed from the server, and says when it cannot.
// Every page works without it.
"use strict";

document.documentElement.classList.add("js");

const PATIENCE_MS = 15000; // the server says something every 5 s
const AGAIN_MS = 3000;
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];

// Times that count on

const ahead = Number(document.body.dataset.now || Date.now()) - Date.now(); // of the server's clock

function coarse(seconds) {
  for (const [size, name] of UNITS) if (seconds >= size) return `${Math.floor(seconds / size)} ${name}`;
  return `${Math.max(0, Math.floor(seconds))} s`;
}

function count() {
  const now = Date.now() + ahead;
  for (const time of document.querySelectorAll("time[data-ago], time[data-since]")) {
    const seconds = (now - Date.parse(time.dateTime)) / 1000;
    let text = coarse(seconds);
    if ("ago" in time.dataset) text = seconds < 0 ? `in ${coarse(-seconds)}` : `${text} ago`;
    if (time.textContent !== text) time.textContent = text;
  }
}

// An element becomes another one in place, so that focus, open details, popovers and videos stay as they are

function become(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
  }
  const coming = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    while (at && at.id && at.id !== child.id && !coming.has(at.id)) at = removed(at);
    const known = child.id && [...old.children].find((each) => each.id === child.id);
    if (known) {
      if (known === at) at = at.nextSibling;
      else old.insertBefore(known, at);
      become(known, child);
    } else if (at && alike(at, child)) {
      if (at.nodeType === Node.ELEMENT_NODE) become(at, child);
      else if (at.data !== child.data) at.data = child.data;
      at = at.nextSibling;
    } else {
      old.insertBefore(child, at);
    }
  }
  while (at) at = removed(at);
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && !one.id && !other.id;
}

function removed(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function show(parts) {
  const focused = document.activeElement && document.activeElement.id;
  for (const [id, html] of Object.entries(parts)) {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const old = document.getElementById(id);
    if (!old) return void renew(); // a part that was not there before: only the whole page tells its place
    if (holder.content.firstElementChild) become(old, holder.content.firstElementChild);
  }
  if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus();
  count();
}

async function renew() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
  const page = new DOMParser().parseFromString(answer && answer.ok ? await answer.text() : "", "text/html");
  const main = document.getElementById("main");
  const fresh = page.getElementById("main");
  if (!fresh) return;
  fresh.prepend(...[...main.children].filter((each) => each.matches(".notice")).map((each) => each.cloneNode(true)));
  become(main, fresh);
  count();
}

// The stream

const sign = document.getElementById("link");
const SIGNS = {
  live: '<circle cx="6" cy="6" r="4" fill="currentColor"/>',
  connecting: '<circle cx="6" cy="6" r="3" fill="none" stroke="currentColor" stroke-width="2"/>',
  disconnected: '<path d="M2 2l8 8M10 2l-8 8" stroke="currentColor" stroke-width="2" stroke-linecap="round"/>',
};
let source = null;
let heardAt = 0;
let triedAt = 0;

function say(word) {
  if (!sign || sign.dataset.word === word) return;
  sign.dataset.word = word;
  sign.className = `link ${word}`;
  sign.innerHTML = `<svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">${SIGNS[word]}</svg>${word}`;
}

function connect() {
  disconnect();
  triedAt = heardAt = Date.now();
  source = new EventSource(location.pathname + location.search);
  source.addEventListener("parts", (event) => {
    heardAt = Date.now();
    say("live");
    show(JSON.parse(event.data));
  });
  source.addEventListener("signed-out", () => {
    disconnect();
    location.assign(`/status/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
  });
  source.addEventListener("gone", () => {
    disconnect();
    location.reload();
  });
  source.addEventListener("error", () => say("disconnected"));
}

function disconnect() {
  if (source) source.close();
  source = null;
}

function watch() {
  if (document.hidden) return;
  const now = Date.now();
  if (now - heardAt > PATIENCE_MS) say("disconnected");
  const closed = !source || source.readyState === EventSource.CLOSED;
  if ((closed && now - triedAt > AGAIN_MS) || now - heardAt > PATIENCE_MS) connect();
}

if (sign && document.querySelector("[data-live]")) {
  say("connecting");
  connect();
  setInterval(watch, 1000);
  // A browser has few connections to one host: pages that nobody sees give theirs back.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
}

count();
setInterval(count, 1000);

// Small comforts

for (const time of document.querySelectorAll("time")) {
  time.title = `${time.title ? `${time.title}, ` : ""}here ${new Date(time.dateTime).toLocaleString()}`;
}

if (location.search.includes("done=")) {
  const address = new URL(location.href);
  address.searchParams.delete("done");
  history.replaceState(null, "", address);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.parentElement.querySelector("code, pre");
  getSelection().selectAllChildren(text);
  try {
    await navigator.clipboard.writeText(text.textContent);
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  } catch {
    // No clipboard on a page without https: the text is selected, so that the keyboard copies it.
  }
});

document.addEventListener("submit", (event) => {
  // Once is enough while the answer may come; whoever stopped it, or comes back to the page, may press again.
  const buttons = [...event.target.querySelectorAll("button")];
  const usable = (yes) => buttons.forEach((button) => (button.disabled = !yes));
  setTimeout(() => usable(false)); // after the form was read, so that the pressed button's own value is sent
  setTimeout(() => usable(true), PATIENCE_MS);
  addEventListener("pageshow", () => usable(true), { once: true });
});
