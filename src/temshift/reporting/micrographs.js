"use strict";
(() => {
  const particle = /^(m\d+)-([ro])(\d+)$/;
  const partner = (id) => id.replace(particle, (_, m, kind, n) => `${m}-${kind === "r" ? "o" : "r"}${n}`);
  const pick = (id) => {
    for (const old of document.querySelectorAll(".picked")) old.classList.remove("picked");
    if (!particle.test(id)) return;
    for (const one of [id, partner(id)]) {
      const found = document.getElementById(one);
      if (!found) continue;
      found.classList.add("picked");
      const folded = found.closest("details");
      if (folded) folded.open = true;
    }
  };
  const follow = () => {
    const id = location.hash.slice(1);
    pick(id);
    if (!particle.test(id)) return;
    const target = document.getElementById(id);
    if (!target) return;
    const seat = target.matches("tr") ? target.querySelector("a") : target;
    seat.focus({ preventScroll: true });
    target.scrollIntoView({ block: "center", inline: "nearest" });
  };
  addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    const hash = link && (link.getAttribute("href") || "");
    if (hash && hash === location.hash) follow();
  });
  document.addEventListener("keydown", (event) => {
    const drawing = event.target.closest(".outlines");
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!drawing || !step) return;
    event.preventDefault();
    const links = [...drawing.querySelectorAll("a")];
    const now = links.indexOf(document.activeElement);
    const next = links[now < 0 ? 0 : (now + step + links.length) % links.length];
    if (!next) return;
    next.focus();
    pick(next.id);
  });
  follow();
})();
