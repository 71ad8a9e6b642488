// Puts what changed into its places, presses buttons without leaving the page, copies lines. All words come from the server.
(() => {
  "use strict";
  const root = document.documentElement;
  const events = document.getElementById("events");

  function mark(marks) {
    for (const [name, value] of Object.entries(marks)) root.dataset[name] = value;
    const done = root.dataset.done.split(" ");
    for (const row of document.querySelectorAll("[data-trial]")) {
      row.classList.toggle("is-done", row.dataset.trial.split(" ").every((step) => done.includes(step)));
    }
  }

  function write(texts) {
    for (const place of document.querySelectorAll("[data-v]")) {
      const text = texts[place.dataset.v];
      if (place.textContent !== text) place.textContent = text;
    }
  }

  function tell(html) {
    const before = new Set(Array.from(events.children, (line) => line.textContent));
    events.innerHTML = html; // made and escaped by the server
    for (const line of events.children) line.classList.toggle("new", before.size > 0 && !before.has(line.textContent));
  }

  const source = new EventSource(`/events?lang=${root.lang}`);
  source.addEventListener("open", () => { root.dataset.live = ""; });
  source.addEventListener("error", () => { delete root.dataset.live; });
  source.addEventListener("message", (message) => {
    const changed = JSON.parse(message.data);
    if (changed.marks) mark(changed.marks);
    if (changed.texts) write(changed.texts);
    if (changed.events !== undefined) tell(changed.events);
  });

  for (const form of document.querySelectorAll("form.press")) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      form.setAttribute("aria-busy", "true");
      try {
        await fetch(form.action, { method: "POST" });
      } finally {
        form.removeAttribute("aria-busy");
      }
      // the pressed button may be replaced by its opposite: whoever uses the keyboard stays in place
      const other = { cut: "restore", restore: "cut" }[form.dataset.action];
      if (other) requestAnimationFrame(() => setTimeout(() => document.querySelector(`[data-action="${other}"] button`).focus(), 600));
    });
  }

  for (const button of document.querySelectorAll(".copy")) {
    const word = button.textContent;
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = button.dataset.copied;
      setTimeout(() => { button.textContent = word; }, 1500);
    });
  }

  mark(root.dataset);
})();
