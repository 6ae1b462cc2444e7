// What pages do with JavaScript beside htmx: copy buttons, "/" for the search, closing the list of matches, and drawings
// that begin at what they are about where they are wider than the window.
"use strict";
function ready() {
  if (navigator.clipboard) document.querySelectorAll("button[data-copy]").forEach((button) => (button.hidden = false));
}
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
});
function centre() {
  document.querySelectorAll(".drawing-scroll").forEach((drawing) => {
    const about = drawing.querySelector(".item.focus, line.moment");
    if (!about || drawing.scrollWidth <= drawing.clientWidth) return;
    const at = about.getBoundingClientRect(), frame = drawing.getBoundingClientRect();
    drawing.scrollLeft += at.left + at.width / 2 - frame.left - frame.width / 2;
  });
}
document.addEventListener("htmx:after:swap", ready);
document.addEventListener("DOMContentLoaded", () => {
  ready();
  centre();
  const find = document.getElementById("find"), found = document.getElementById("found");
  if (!find) return;
  // What was asked for before the list was closed may come after it, and must not open it again.
  let isClosed = false;
  const close = () => { isClosed = true; found.replaceChildren(); };
  find.addEventListener("input", () => (isClosed = false));
  document.addEventListener("htmx:before:swap", (event) => { if (event.target === find && isClosed) event.preventDefault(); });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing) { event.preventDefault(); find.focus(); }
    if (event.key === "Escape" && document.activeElement.closest(".find")) { event.preventDefault(); close(); find.focus(); }
    if ((event.key === "ArrowDown" || event.key === "ArrowUp") && document.activeElement.closest(".find")) {
      const stops = [find, ...found.querySelectorAll("li > a")];
      const next = stops.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
      if (stops[next]) { event.preventDefault(); stops[next].focus(); }
    }
  });
  document.addEventListener("focusin", (event) => { if (!event.target.closest(".find")) close(); });
  document.addEventListener("click", (event) => { if (!event.target.closest(".find")) close(); });
});
