// Puts changed panels in place as they come; marks the records that were not there before. HTML is made and escaped by the server.
"use strict";

const newest = () => Number(document.querySelector("[data-row]")?.dataset.row ?? 0);

function place(panels) {
  const before = newest();
  for (const [name, html] of Object.entries(panels)) {
    const panel = document.getElementById(name);
    if (!panel) continue;
    const scrolled = panel.querySelector(".scroll")?.scrollLeft ?? 0;
    panel.innerHTML = html;
    const region = panel.querySelector(".scroll");
    if (region) region.scrollLeft = scrolled;
  }
  if (!before) return;
  for (const row of document.querySelectorAll("[data-row]")) {
    if (Number(row.dataset.row) > before) row.classList.add("fresh");
  }
}

const root = document.documentElement;
const source = new EventSource(`events?lang=${root.lang}`);
source.addEventListener("open", () => root.setAttribute("data-live", ""));
source.addEventListener("error", () => root.removeAttribute("data-live"));
source.addEventListener("message", (message) => place(JSON.parse(message.data)));
