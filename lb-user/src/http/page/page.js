"use strict";
(() => {
const live = document.getElementById("live"), gone = document.getElementById("gone"), said = document.getElementById("said");
const icon = document.querySelector("link[rel=icon]");
const colours = { good: "#1a7f37", mid: "#b08000", bad: "#c62828", gone: "#777" };
const EVERY = 2000, PATIENCE = 4000;
let heard = new Date(), paused = false, timer = 0, asking = false, shown = "";

const clock = time => time.toLocaleTimeString([], { hour12: false });

function show(mood, title) {
  const colour = encodeURIComponent(colours[mood] || colours.good);
  const shape = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><circle cx='4' cy='4' r='3.5' fill='${colour}'/></svg>`;
  if (shown !== mood) icon.href = "data:image/svg+xml," + shape;
  shown = mood;
  if (document.title !== title) document.title = title;
}

// Makes an element like another one and leaves alone what is the same, so that focus, selection and open parts stay.
function like(a, b) {
  if (a.nodeType === 1 && a.matches("form") && a.contains(document.activeElement)) return;
  for (const { name } of [...a.attributes]) if (!b.hasAttribute(name) && name !== "open" && name !== "class") a.removeAttribute(name);
  for (const { name, value } of b.attributes) if (a.getAttribute(name) !== value && !(a === live && name === "class")) a.setAttribute(name, value);
  if (a !== live && !b.hasAttribute("class") && a.hasAttribute("class")) a.removeAttribute("class");
  const key = node => node.nodeType === 1 ? node.nodeName + " " + (node.dataset.key ?? node.id) : "#" + node.nodeType;
  const known = new Map();
  for (const node of a.childNodes) {
    const name = key(node);
    if (!known.has(name)) known.set(name, []);
    known.get(name).push(node);
  }
  let next = a.firstChild;
  for (const wanted of [...b.childNodes]) {
    const found = known.get(key(wanted))?.shift();
    if (!found) { a.insertBefore(wanted, next); continue; }
    if (found === next) next = next.nextSibling; else a.insertBefore(found, next);
    if (found.nodeType === 1) like(found, wanted);
    else if (found.data !== wanted.data) found.data = wanted.data;
  }
  for (const rest of known.values()) for (const node of rest) node.remove();
}

// Reads out what has happened since the last look.
function tell(part) {
  const newest = node => Number(node.querySelector(".events li")?.dataset.n ?? 0);
  const before = newest(live);
  if (live.dataset.started !== part.dataset.started) return;
  const fresh = [...part.querySelectorAll(".events li")].filter(item => Number(item.dataset.n) > before);
  if (fresh.length) {
    said.textContent = fresh.slice(0, 5).reverse()
      .map(item => item.querySelector("b").textContent + ": " + item.lastElementChild.textContent).join(". ");
  }
}

async function look() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  const patience = new AbortController(), end = setTimeout(() => patience.abort(), PATIENCE);
  try {
    const answer = await fetch("/live", { signal: patience.signal, cache: "no-store", redirect: "error" });
    if (!answer.ok) throw new Error("status " + answer.status);
    const part = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    if (!part) throw new Error("no page");
    tell(part);
    like(live, part);
    heard = new Date();
    gone.hidden = true;
    live.className = "running";
    show(live.dataset.mood, live.dataset.title);
  } catch {
    if (gone.hidden) {
      gone.textContent = live.dataset.node + " is not answering since " + clock(heard) + ". Below is what it said then.";
      gone.hidden = false;
      live.className = "old";
      show("gone", "not answering · " + live.dataset.title);
    }
  }
  clearTimeout(end);
  asking = false;
  if (!paused) timer = setTimeout(look, document.hidden ? EVERY * 5 : EVERY);
}

const pause = document.createElement("button");
pause.type = "button";
pause.id = "pause";
pause.textContent = "Pause";
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Go on" : "Pause";
  if (paused) { clearTimeout(timer); live.className = ""; } else look();
});
document.querySelector("#bar").append(pause);
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) look(); });
live.className = "running";
show(live.dataset.mood, live.dataset.title);
timer = setTimeout(look, EVERY);
})();
