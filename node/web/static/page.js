// What htmx does not know: how old the data is. It runs the "Updated N s ago" clock, raises the banner, and asks for
// the stream again where htmx would wait for ever (a dead peer on a half-open line, a first request that failed).
(() => {
  "use strict";
  const STALE_SECONDS = 10; // page.py holds the same figure
  const AGAIN_SECONDS = 5;
  const root = document.documentElement;
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  const edition = pulse().dataset.edition;
  const place = document.title.split(" · ").slice(1).join(" · ");
  let ageAtStart = 0, steady = 0, wall = 0, connection = null, triedAt = 0;

  function pulse() {
    return document.getElementById("panel-pulse");
  }

  function restart() {
    ageAtStart = Number(pulse().dataset.age);
    steady = performance.now();
    wall = Date.now();
  }

  // The steady clock may stop while the machine sleeps, the wall clock may be set back: the larger of both is honest.
  function age() {
    return ageAtStart + Math.max(performance.now() - steady, Date.now() - wall) / 1000;
  }

  function show() {
    const seconds = Math.floor(age());
    const { seconds: inSeconds, minutes } = pulse().dataset;
    const text = seconds < 120 ? inSeconds.replace("{n}", seconds) : minutes.replace("{n}", Math.floor(seconds / 60));
    const words = pulse().querySelector("span");
    if (words.textContent !== text) words.textContent = text;
    const stale = age() > STALE_SECONDS;
    root.toggleAttribute("data-stale", stale);
    document.getElementById("stale").hidden = !stale && !root.hasAttribute("data-paused");
    if (stale && !document.hidden && !root.hasAttribute("data-paused")) again();
  }

  function again() {
    if (performance.now() - triedAt < AGAIN_SECONDS * 1000) return;
    triedAt = performance.now();
    if (connection && connection.reader) connection.reader.cancel(); // htmx then opens the next one
    else htmx.trigger(live, "again");
  }

  live.addEventListener("htmx:sse:after:connection", (event) => { connection = event.detail.connection; });
  live.addEventListener("htmx:sse:close", () => { connection = null; });
  live.addEventListener("htmx:sse:before:message", (event) => {
    if (root.hasAttribute("data-paused")) event.detail.cancelled = true;
  });
  live.addEventListener("htmx:sse:after:message", () => {
    if (pulse().dataset.edition !== edition) location.reload(); // the node was updated under an open page
    document.title = `${document.getElementById("panel-state").dataset.title} · ${place}`;
    restart();
    show();
  });

  pause.hidden = false;
  pause.addEventListener("click", () => {
    if (root.hasAttribute("data-paused")) location.reload(); // what was skipped while paused comes with the page
    root.setAttribute("data-paused", "");
    pause.setAttribute("aria-pressed", "true");
    show();
  });

  restart();
  show();
  setInterval(show, 1000);
})();
