// Keeps the page up to date while somebody looks at it, and shows a task step by step.
"use strict";

const PAUSE = 2500; // milliseconds between a response and the next request
const TIMEOUT = 10000; // milliseconds until web counts as not answering
const LIT = 350; // milliseconds for which a part is lit, because a task is faster than eyes
const shown = new Map(); // the HTML of each section as the server sent it
const summary = document.getElementById("summary");

function replace(section, fresh) {
  if (shown.get(section.id) === fresh.innerHTML) return;
  if (section.querySelector(":active")) return; // a new button would not get the end of this click
  shown.set(section.id, fresh.innerHTML);
  const open = [...section.querySelectorAll("details[open]")].map((each) => each.id);
  const focused = section.contains(document.activeElement) && document.activeElement.closest("[id]").id;
  section.innerHTML = fresh.innerHTML;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  const target = focused && document.getElementById(focused);
  if (target) (target.querySelector("summary") ?? target).focus();
}

async function refresh() {
  const options = { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(TIMEOUT) };
  const answer = await fetch("?live", options);
  if (answer.redirected) return location.reload(); // the session has ended
  if (!answer.ok) throw new Error(answer.statusText);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const section of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(section.id);
    if (fresh) replace(section, fresh);
  }
  mark();
  const words = page.getElementById("summary");
  if (words && summary.textContent !== words.textContent) summary.innerHTML = words.innerHTML;
  document.body.classList.remove("stale");
}

async function watch() {
  for (;;) {
    if (!document.hidden) {
      try {
        await refresh();
      } catch {
        document.body.classList.add("stale");
        const words = "Web does not answer. This page shows its last answer. Start web, and read its log.";
        if (summary.textContent !== words) summary.textContent = words;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

const reached = []; // the parts that the task has reached, and that are not lit yet
let lit = "";

function light(place) {
  reached.push(place);
  if (!lit) step();
}

function step() {
  lit = reached.shift() ?? "";
  mark();
  if (lit) setTimeout(step, LIT);
}

function mark() {
  for (const part of document.querySelectorAll(".part")) {
    part.classList.toggle("lit", lit !== "" && part.classList.contains(lit));
  }
}

async function run(event) {
  event.preventDefault();
  const form = event.target;
  const trace = document.getElementById("trace");
  const button = form.querySelector("button");
  const body = new FormData(form);
  body.append("stream", "1");
  button.setAttribute("aria-disabled", "true");
  try {
    const answer = await fetch(location.pathname, { method: "POST", body });
    if (!answer.ok) throw new Error(answer.statusText);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      text += value;
      const lines = text.split("\n");
      text = lines.pop();
      for (const line of lines) {
        trace.innerHTML = JSON.parse(line).html;
        light(trace.querySelector("[data-place]").dataset.place);
      }
    }
  } catch {
    trace.textContent = "Web stopped answering. Reload the page.";
  }
  button.removeAttribute("aria-disabled");
}

document.getElementById("run")?.addEventListener("submit", (event) => {
  if (event.target.querySelector("[aria-disabled]")) return event.preventDefault();
  run(event);
});
document.getElementById("actions")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = new FormData(event.target, event.submitter);
  try {
    const response = await fetch(location.pathname, { method: "POST", body, redirect: "manual" });
    await refresh();
    if (response.ok) {  // no redirect, because there is a problem
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      summary.textContent = page.getElementById("problem")?.textContent ?? "";
    }
  } catch {
    summary.textContent = "Web did not answer. Reload the page to see whether the change was made.";
  }
});
watch();
