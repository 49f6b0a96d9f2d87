// What a page looks like to who must read it, and what a player does: evaluated in the page by tests.

function rgba(colour) {
  const context = rgba.context ??= Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    .getContext("2d", { willReadFrequently: true });
  context.clearRect(0, 0, 1, 1);
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
  return [red, green, blue, alpha / 255];
}

function over(above, below) {
  const alpha = above[3] + below[3] * (1 - above[3]);
  const mixed = [0, 1, 2].map((i) => (above[i] * above[3] + below[i] * below[3] * (1 - above[3])) / (alpha || 1));
  return [...mixed, alpha];
}

function background(element) {
  let found = [0, 0, 0, 0];
  for (let each = element; each && found[3] < 1; each = each.parentElement) {
    found = over(found, rgba(getComputedStyle(each).backgroundColor));
  }
  return over(found, rgba("Canvas"));
}

function luminance(colour) {
  const [red, green, blue] = colour.slice(0, 3).map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [bright, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (bright + 0.05) / (dark + 0.05);
}

function opacity(element) {
  let found = 1;
  for (let each = element; each; each = each.parentElement) found *= Number(getComputedStyle(each).opacity);
  return found;
}

// WCAG 2.2, 1.4.3: 4.5 to 1, and 3 to 1 where text is large (24 px, or bold and 18.66 px). Disabled controls may be less.
function poorlyLegible() {
  for (const each of document.querySelectorAll("details")) each.open = true;
  const found = faint(document.body);
  for (const each of document.querySelectorAll("[popover]")) {
    each.showPopover();
    found.push(...faint(each));
    each.hidePopover();
  }
  return [...new Set(found)];
}

function faint(root) {
  const found = [];
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const words = texts.currentNode.textContent.trim();
    if (!words || !element.checkVisibility({ opacityProperty: false, visibilityProperty: true })) continue;
    if (element.closest("script, style, noscript, option, [disabled]")) continue;
    const style = getComputedStyle(element);
    const below = background(element);
    const paint = rgba(element instanceof SVGElement ? style.fill : style.color);
    paint[3] *= opacity(element);
    const ratio = contrast(over(paint, below), below);
    const size = parseFloat(style.fontSize);
    const enough = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < enough) found.push(`${ratio.toFixed(2)} "${words.slice(0, 40)}" ${style.color} ${below.slice(0, 3).map(Math.round)}`);
  }
  return found;
}

// What reaches over the right edge, unless it scrolls by itself.
function tooWide() {
  const outside = (element) => element.getBoundingClientRect().right > innerWidth + 0.5;
  const scrolls = (element) => element && (getComputedStyle(element).overflowX !== "visible" || scrolls(element.parentElement));
  const name = (element) => `${element.localName}.${[...element.classList].join(".")} "${element.textContent.trim().slice(0, 40)}"`;
  return [...document.body.querySelectorAll("*")].filter((each) => outside(each) && !scrolls(each.parentElement)).map(name);
}

// What scrolls sideways by itself, and that the keyboard does not reach: neither it nor anything in it takes the focus.
function unreachable() {
  const stops = "a[href], button, input, select, textarea, summary, video, [tabindex]:not([tabindex='-1'])";
  const scrolls = (each) => each.scrollWidth > each.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(each).overflowX);
  return [...document.body.querySelectorAll("*")]
    .filter((each) => scrolls(each) && !each.matches(stops) && !each.querySelector(stops))
    .map((each) => `${each.localName}.${each.className}`);
}

// What has the focus: its name, and whether that can be seen.
function focused() {
  const at = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(at);
  return [at.getAttribute("aria-label") || at.textContent.trim(), outlineStyle !== "none" && outlineWidth !== "0px"];
}

// Plays the video; its width once it has run for a while.
async function played() {
  const video = document.querySelector("video");
  video.muted = true;
  const going = new Promise((then) => (video.ontimeupdate = () => video.currentTime > 0.1 && then(video.videoWidth)));
  await video.play();
  return going;
}

// Plays the video, if there is one, and stops it there.
async function paused() {
  if (!document.querySelector("video")) return;
  await played();
  document.querySelector("video").pause();
  await sought(0.9);
}

// Where the video stands after it was moved to `seconds`.
function sought(seconds) {
  const video = document.querySelector("video");
  return new Promise((then) => {
    video.onseeked = () => then(video.currentTime);
    video.currentTime = seconds;
  });
}

const videoAt = (index) => document.querySelectorAll("video")[index];

async function part(path, range) {
  const answer = await fetch(path, { headers: { range } });
  return [answer.status, (await answer.blob()).size];
}

function widthOf(path) {
  return new Promise((then) => {
    const picture = new Image();
    picture.onload = () => then(picture.naturalWidth);
    picture.onerror = () => then(0);
    picture.src = path;
  });
}
