// Draws series with uPlot where pages have them: the drawing that the server made stays for whoever has no JavaScript.
"use strict";
const charts = new Map();
function percent(value) { return value > 0 && value < 0.001 ? "< 0.1 %" : `${+(value * 100).toFixed(1)} %`; }
function compact(value) { return value.toLocaleString("en", { maximumSignificantDigits: 6 }); }
function draw(figure) {
  const { times, lines, unit, days } = JSON.parse(figure.dataset.series);
  const colour = (name) => getComputedStyle(figure).getPropertyValue(name).trim();
  const shown = (value) => (value == null ? "-" : unit === "share" ? percent(value) : compact(value));
  const axis = { stroke: colour("--soft"), font: "12px system-ui", grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const names = Object.keys(lines);
  const size = () => ({ width: Math.max(figure.clientWidth, 200), height: 170 });
  const at = (time) => new Date(time * 1000).toISOString().slice(0, days ? 10 : 16).replace("T", " ");
  const last = times.length - 1, is_long = days || times[last] - times[0] > 2 * 86400;
  const tick = (time) => (is_long ? at(time).slice(5, 10) : new Date(time * 1000).toISOString().slice(11, times[last] - times[0] > 1200 ? 16 : 19));
  // Without a pointer the legend says the newest values.
  const newest = (chart) => { if (chart.cursor.idx == null) chart.setLegend({ idx: last }); };
  const options = {
    ...size(), tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "Etc/UTC"),
    scales: { y: { range: (chart, low, high) => {
      if (low == null) return [0, 1];
      if (days || unit === "share") low = Math.min(low, 0);
      const margin = (high - low) / 10 || Math.abs(high) / 10 || 1;
      return [low === 0 ? 0 : low - margin, high + margin];
    } } },
    axes: [{ ...axis, space: 70, values: (chart, ticks) => ticks.map(tick) }, { ...axis, size: 64, values: (chart, ticks) => ticks.map(shown) }],
    series: [{ label: days ? "day" : "time", value: (chart, time) => (time == null ? "" : at(time)) },
      ...names.map((name, place) => ({ label: name, stroke: colour("--accent"), width: place ? 1 : 2, dash: place ? [4, 4] : [],
        points: { show: !place, size: 5, fill: colour("--accent") }, value: (chart, value) => shown(value) }))],
    cursor: { drag: { x: false, y: false } }, hooks: { setCursor: [newest] },
  };
  // Of another kind than what the server sends: where a page is loaded again, htmx makes a div into the drawing's own.
  const place = document.createElement("section");
  place.className = "chart-place";
  place.setAttribute("aria-hidden", "true");
  const drawing = figure.querySelector(".drawing-scroll");
  drawing.hidden = true;
  drawing.before(place);
  const chart = new uPlot(options, [times, ...names.map((name) => lines[name])], place);
  newest(chart);
  charts.set(figure, { chart, size, place });
}
function drawAll() {
  for (const [figure, { chart, place }] of charts) {
    // A page that is loaded again is merged into the one before, and what only the script made is taken out of it.
    if (figure.isConnected && figure.contains(place)) continue;
    chart.destroy();
    charts.delete(figure);
  }
  if (!window.uPlot) return;
  for (const figure of document.querySelectorAll("figure.chart")) if (!charts.has(figure)) draw(figure);
}
function redrawAll() {
  for (const [, { chart, place }] of charts) { chart.destroy(); place.remove(); }
  charts.clear();
  drawAll();
}
document.addEventListener("DOMContentLoaded", () => {
  drawAll();
  let frame = 0;
  new MutationObserver(() => { cancelAnimationFrame(frame); frame = requestAnimationFrame(drawAll); })
    .observe(document.body, { childList: true, subtree: true });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
addEventListener("resize", () => { for (const { chart, size } of charts.values()) chart.setSize(size()); });
