"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const shots = [...document.querySelectorAll(".shot")];
  const range = byId("range"), position = byId("position"), stage = byId("stage");
  let shown = -1;

  const ofPosition = () => shots.filter((shot) => shot.dataset.position === position.value);

  const moveCursors = (t) => {
    for (const svg of document.querySelectorAll(".chart svg")) {
      const { first, last, left, right } = svg.dataset;
      const share = (t - first) / Math.max(last - first, 1);
      const x = +left + share * (right - left);
      const cursor = svg.querySelector(".cursor");
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.setAttribute("visibility", "visible");
    }
  };

  const show = (number, remember = true) => {
    const shot = shots[number];
    if (!shot || number === shown) return;
    shown = number;
    position.value = shot.dataset.position;
    const row = ofPosition();
    range.max = row.length - 1;
    range.value = row.indexOf(shot);
    stage.replaceChildren(...[...shot.querySelectorAll("img")].map((img) => img.cloneNode()));
    const { caption, flags, t } = shot.dataset;
    byId("caption").textContent = flags ? `${caption} \u00b7 ${flags}` : caption;
    range.setAttribute("aria-valuetext", caption);
    for (const other of shots) other.classList.toggle("current", other === shot);
    moveCursors(+t);
    if (remember) history.replaceState(null, "", `#frame=${number}`);
  };

  const step = (by) => {
    const row = ofPosition();
    const next = Math.min(Math.max(+range.value + by, 0), row.length - 1);
    show(shots.indexOf(row[next]));
  };

  const nextPosition = () => {
    const here = shots[shown];
    position.selectedIndex = (position.selectedIndex + 1) % position.options.length;
    showNearest(+here.dataset.t);
  };

  const showNearest = (t) => {
    const away = (shot) => Math.abs(shot.dataset.t - t);
    const nearest = ofPosition().reduce((a, b) => (away(b) < away(a) ? b : a));
    show(shots.indexOf(nearest));
  };

  const toggleOutlines = () => {
    const off = document.body.classList.toggle("no-lines");
    byId("outlines").setAttribute("aria-pressed", String(!off));
  };

  const fromAddress = () => {
    const found = /^#frame=(\d+)$/.exec(location.hash);
    if (!found) return false;
    show(+found[1], false);
    byId("scrub").scrollIntoView();
    return true;
  };

  if (!shots.length) {
    byId("scrub").hidden = true;
    return;
  }
  range.addEventListener("input", () => step(0));
  position.addEventListener("change", () => showNearest(+shots[shown].dataset.t));
  byId("back").addEventListener("click", () => step(-1));
  byId("on").addEventListener("click", () => step(1));
  byId("outlines").addEventListener("click", toggleOutlines);
  window.addEventListener("hashchange", fromAddress);
  document.addEventListener("click", (event) => {
    const svg = event.target.closest(".chart svg");
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    const { first, last, left, right } = svg.dataset;
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    showNearest(+first + ((x - left) / (right - left)) * (last - first));
  });
  const keys = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    Home: () => step(-Infinity),
    End: () => step(Infinity),
    p: nextPosition,
    o: toggleOutlines,
  };
  document.addEventListener("keydown", (event) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const act = Object.hasOwn(keys, key) && keys[key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.matches("select") || (event.target.matches("input") && key.length > 1 && event.target !== range)) return;
    event.preventDefault();
    act();
  });
  for (const link of document.querySelectorAll(".thumb")) {
    const shot = shots[+link.hash.slice("#frame=".length)];
    const label = link.textContent;
    link.replaceChildren(...[...shot.querySelectorAll("img")].map((img) => img.cloneNode()));
    link.classList.add("stack");
    link.setAttribute("aria-label", `show ${label}`);
  }
  if (!fromAddress()) show(0, false);
})();
