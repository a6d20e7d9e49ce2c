// What pages do beyond HTML: figures, theme, keys, copying, filters without a reload. Pages work without it.

const root = document.documentElement;
root.classList.add("js");
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

// plotly writes some style attributes as text, which the Content-Security-Policy forbids; as properties they are allowed.
const writeAttribute = Element.prototype.setAttribute;
Element.prototype.setAttribute = function setAttribute(name, value) {
  if (name === "style") this.style.cssText = value;
  else writeAttribute.call(this, name, value);
};

// ---- figures ---------------------------------------------------------------------------------------------------

function colour(name) {
  const [token, opacity] = name.slice(6).split("/");
  const value = getComputedStyle(root).getPropertyValue(`--${token}`).trim();
  if (!opacity) return value;
  const channel = (at) => parseInt(value.slice(at, at + 2), 16);
  return `rgba(${channel(1)},${channel(3)},${channel(5)},${opacity})`;
}

function coloured(value) {
  if (typeof value === "string") return value.startsWith("token:") ? colour(value) : value;
  if (Array.isArray(value)) return value.map(coloured);
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner)]));
  return value;
}

function merged(base, over) {
  const result = { ...base };
  for (const [key, value] of Object.entries(over ?? {})) {
    const both = [value, base?.[key]].every((side) => side && typeof side === "object" && !Array.isArray(side));
    result[key] = both ? merged(base[key], value) : value;
  }
  return result;
}

const template = JSON.parse(document.getElementById("figure-template")?.textContent || "{}");
const figures = new WeakMap();

function axes(layout) {
  // Every axis of a figure starts from the template's, also a second one that the template does not know by name.
  const named = Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
  return Object.fromEntries([...new Set([...named, "xaxis", "yaxis"])].map((key) => [key, template[`${key[0]}axis`]]));
}

async function draw(plot) {
  const figure = figures.get(plot);
  if (!figure || !window.Plotly) return;
  if (figure.layout.height) plot.style.height = `${figure.layout.height}px`;
  const layout = merged(merged({ ...template, ...axes(figure.layout) }, figure.layout), { autosize: true });
  await window.Plotly.react(plot, coloured(figure.data), coloured(layout), {
    displayModeBar: false, responsive: true, showTips: false, doubleClick: false,
  });
  if (!plot.dataset.links) {
    plot.dataset.links = "on";
    plot.on("plotly_click", ({ points }) => {
      const to = points[0]?.customdata?.url ?? points[0]?.customdata;
      if (typeof to === "string" && to.startsWith("/")) location.href = to;
    });
  }
}

async function load(plot) {
  const address = plot.dataset.chart;
  const wait = plot.querySelector(".wait");
  try {
    const answer = await fetch(address, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const chart = await answer.json();
    if (plot.dataset.chart !== address) return;
    const summary = plot.closest("figure").querySelector(".summary");
    if (summary) summary.textContent = chart.figure ? chart.summary : "";
    plot.setAttribute("aria-label", `${chart.title}. ${chart.summary}`);
    if (!chart.figure) {
      figures.delete(plot);
      if (plot.classList.contains("js-plotly-plot")) window.Plotly.purge(plot);
      say(plot, chart.summary);
      return;
    }
    figures.set(plot, chart.figure);
    plot.querySelector(".wait")?.remove();
    await draw(plot);
  } catch (error) {
    if (error.name === "AbortError") return;
    say(plot, `This figure could not be loaded: ${error.message}. Reload the page to try again.`);
  } finally {
    wait?.removeAttribute("aria-busy");
  }
}

function say(plot, text) {
  const line = plot.querySelector(".wait") ?? plot.appendChild(document.createElement("p"));
  line.className = "wait";
  line.textContent = text;
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    load(target);
  }
}, { rootMargin: "200px" });

async function openTable(details) {
  const place = details.querySelector("[data-table]");
  if (!details.open || !place || place.dataset.loaded === place.dataset.table) return;
  place.dataset.loaded = place.dataset.table;
  const answer = await fetch(place.dataset.table, { headers: { Accept: "text/html" } });
  place.innerHTML = answer.ok ? await answer.text() : "";
  if (!answer.ok) place.textContent = `The table could not be loaded: the server answered ${answer.status}.`;
}

// ---- times -----------------------------------------------------------------------------------------------------

function relative(seconds) {
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))}\u00a0min ago`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)}\u00a0h ago`;
  return `${Math.round(seconds / 86400)}\u00a0days ago`;
}

function tell(times) {
  const pad = (number) => String(number).padStart(2, "0");
  for (const time of times) {
    const moment = new Date(time.dateTime);
    const age = (Date.now() - moment) / 1000;
    if (time.dataset.ago !== undefined && age >= 0 && age < 31 * 86400) time.textContent = relative(age);
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const local = `${moment.getFullYear()}-${pad(moment.getMonth() + 1)}-${pad(moment.getDate())} ` +
      [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(pad).join(":");
    time.title = zone === "UTC" ? `${local} UTC` : `${local} ${zone} · ${moment.toISOString().slice(11, 19)} UTC`;
  }
}

// ---- filters in place ------------------------------------------------------------------------------------------

let latest = 0;

async function replace(address, remember) {
  const turn = ++latest;
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok || !answer.headers.get("Content-Type")?.startsWith("text/html")) { location.href = address; return; }
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (turn !== latest) return;
  for (const part of document.querySelectorAll("[data-part]")) {
    const other = next.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!other) { location.href = address; return; }
    // A figure stays where it is and is redrawn, so that nothing jumps.
    for (const plot of other.querySelectorAll(".plot[id]")) {
      const drawn = document.getElementById(plot.id);
      if (!drawn) continue;
      drawn.dataset.chart = plot.dataset.chart;
      plot.replaceWith(drawn);
    }
    part.replaceWith(other);
    prepare(other);
  }
  document.title = next.title;
  if (remember) history.pushState({ inPlace: true }, "", address);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-in-place]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  replace(link.href, true);
});

document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (form?.matches("form[data-in-place]")) form.requestSubmit();
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("form[data-ask]") && !confirm(form.dataset.ask)) { event.preventDefault(); return; }
  if (!form.matches("form[data-in-place]")) return;
  event.preventDefault();
  const fields = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  replace(`${form.getAttribute("action") || location.pathname}?${fields}`, true);
});

addEventListener("popstate", () => {
  if (document.querySelector("[data-part]")) replace(location.href, false);
});

// ---- theme -----------------------------------------------------------------------------------------------------

function wear(theme) {
  root.dataset.theme = theme;
  document.cookie = `theme=${theme}; path=/; max-age=31536000; samesite=lax`;
  for (const button of document.querySelectorAll(".themes button"))
    button.setAttribute("aria-pressed", String(button.value === theme));
  redraw();
}

function redraw() {
  for (const plot of document.querySelectorAll(".plot")) draw(plot);
}

document.querySelector("form.themes")?.addEventListener("submit", (event) => {
  event.preventDefault();
  wear(event.submitter.value);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// ---- copying ---------------------------------------------------------------------------------------------------

async function copy(button) {
  const text = button.dataset.copy || document.getElementById(button.dataset.copyFrom).textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https the clipboard is closed to pages; a selection can still be copied.
    const field = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button[data-copy],button[data-copy-from]");
  if (button) copy(button);
});

// ---- keys ------------------------------------------------------------------------------------------------------

const help = document.getElementById("keys");
let afterG = -Infinity;

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input,select,textarea,[contenteditable]");
  if (event.key === "Escape" && typing) typing.blur();
  if (typing || event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.timeStamp - afterG < 1200) {
    afterG = -Infinity;
    const link = document.querySelector(`a[data-key="${CSS.escape(event.key)}"]`);
    if (link) { event.preventDefault(); link.click(); }
    return;
  }
  const search = document.querySelector("[data-search]");
  if (event.key === "g") afterG = event.timeStamp;
  else if (event.key === "/" && search) { event.preventDefault(); search.focus(); search.select(); }
  else if (event.key === "?" && help) { event.preventDefault(); if (!help.open) help.showModal(); }
});

document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-open-keys]")) help?.showModal();
  for (const menu of document.querySelectorAll("details.team-switch[open]"))
    if (!menu.contains(event.target)) menu.open = false;
});

// ---- waiting for the first log ---------------------------------------------------------------------------------

async function wait(place) {
  try {
    const answer = await fetch(place.dataset.wait, { headers: { Accept: "application/json" } });
    const { url, text } = answer.ok ? await answer.json() : {};
    if (url) { location.href = url; return; }
    if (text) place.querySelector("[data-wait-text]").textContent = text;
  } catch { /* the server restarts, or the network is away: ask again */ }
  setTimeout(() => wait(place), document.hidden ? 5000 : 800);
}

// ---- begin -----------------------------------------------------------------------------------------------------

function prepare(part) {
  tell(part.querySelectorAll("time[datetime]"));
  for (const plot of part.querySelectorAll(".plot[data-chart]")) {
    if (figures.has(plot)) load(plot);
    else seen.observe(plot);
  }
  for (const details of part.querySelectorAll(".chart details")) details.addEventListener("toggle", () => openTable(details));
  for (const place of part.querySelectorAll("[data-wait]")) wait(place);
}

addEventListener("DOMContentLoaded", () => prepare(document));
setInterval(() => { if (!document.hidden) tell(document.querySelectorAll("time[data-ago]")); }, 30000);
if (location.hash && !still) document.getElementById(location.hash.slice(1))?.scrollIntoView({ block: "center" });
