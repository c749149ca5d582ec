/* Interlock: what pages do besides htmx. Every page works without it. */
"use strict";

(() => {
  // Times say how long ago they were; keep the words fresh. As ago() in
  // web/ui/parts.templ.
  function ago(seconds) {
    const past = (n, unit) => `${n} ${unit}${n === 1 ? "" : "s"} ago`;
    const m = Math.floor(seconds / 60);
    if (seconds < 0) return null; // in the future: the server said it
    if (seconds < 45) return "just now";
    if (m < 1) return "1 minute ago";
    if (m < 60) return past(m, "minute");
    if (m < 60 * 24) return past(Math.floor(m / 60), "hour");
    if (m < 60 * 24 * 60) return past(Math.floor(m / 60 / 24), "day");
    return past(Math.floor(m / 60 / 24 / 30), "month");
  }
  setInterval(() => {
    for (const t of document.querySelectorAll("time[data-ago]")) {
      const words = ago((Date.now() - Date.parse(t.dateTime)) / 1000);
      if (words && words !== t.textContent) t.textContent = words;
    }
  }, 20000);

  // What goes on shows for how long. As span() in run/page_head.go.
  function span(seconds) {
    const s = Math.floor(seconds);
    if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
    if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
    return `${Math.floor(s / 86400)} days`;
  }
  setInterval(() => {
    for (const t of document.querySelectorAll("[data-since]")) t.textContent = span((Date.now() - Date.parse(t.dataset.since)) / 1000);
  }, 1000);

  // A request that was sent to sign in must not put the sign-in page inside
  // another one.
  document.addEventListener("htmx:beforeSwap", (e) => {
    if (new URL(e.detail.xhr.responseURL || location.href).pathname === "/signin") {
      e.detail.shouldSwap = false;
      location.reload();
    }
  });
  // What a filter does not ask for is not in its address either.
  document.addEventListener("htmx:configRequest", (e) => {
    if (e.detail.verb !== "get") return;
    for (const [name, value] of [...e.detail.formData]) if (value === "") e.detail.formData.delete(name);
  });
  // A form about the list that is shown speaks of what is filtered now.
  document.addEventListener("submit", (e) => {
    for (const input of e.target.querySelectorAll?.("[data-here]") ?? []) input.value = location.search.slice(1);
  });
  // A list does not move under someone who works in it.
  document.addEventListener("htmx:beforeRequest", (e) => {
    const polled = e.detail.elt.hasAttribute("data-poll");
    if (polled && (document.hidden || e.detail.elt.contains(document.activeElement) || e.detail.elt.querySelector("input:checked"))) e.preventDefault();
  });

  // Where the tabs do not fit, the present one is in sight.
  for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
    const bar = tab.parentElement;
    if (bar.scrollWidth > bar.clientWidth) bar.scrollLeft = tab.offsetLeft - bar.offsetLeft - 40;
  }

  // Values that readers take elsewhere. Over plain HTTP a browser has no
  // clipboard to offer, and copies what is selected.
  function offerCopies(root) {
    for (const b of root.querySelectorAll("[data-copy]")) b.hidden = false;
  }
  const said = document.createElement("div");
  said.className = "hidden";
  said.setAttribute("role", "status");
  document.body.append(said);
  async function copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("refused");
  }
  document.addEventListener("click", async (e) => {
    const b = e.target.closest?.("[data-copy]");
    if (!b) return;
    let word = "Copied";
    try { await copy(b.dataset.copy); } catch { word = "Not copied"; }
    b.focus();
    said.textContent = word;
    b.firstChild.data = word;
    setTimeout(() => { b.firstChild.data = "Copy"; said.textContent = ""; }, 1600);
  });

  // One box marks all boxes of its name in the table.
  function offerAll(root) {
    for (const all of root.querySelectorAll("[data-all]")) all.hidden = false;
  }
  offerAll(document);
  offerCopies(document);
  document.addEventListener("htmx:afterSettle", () => {
    offerAll(document);
    offerCopies(document);
  });
  document.addEventListener("change", (e) => {
    const all = e.target.closest("[data-all]");
    if (!all) return;
    for (const box of all.closest("table").querySelectorAll(`input[name="${all.dataset.all}"]`)) box.checked = all.checked;
  });

  // Put a fresh region in the place of the old one, and keep what was typed in
  // it, where the cursor stood and what was folded open.
  function swap(html) {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const fresh = holder.content.firstElementChild;
    const old = fresh && document.getElementById(fresh.id);
    if (!old || old.dataset.version === fresh.dataset.version) return;
    const at = document.activeElement;
    const focus = old.contains(at) && at.id ? { id: at.id, start: at.selectionStart, end: at.selectionEnd } : null;
    for (const input of old.querySelectorAll("input[id], textarea[id]")) {
      const to = holder.content.getElementById(input.id);
      if (to && input.value !== input.defaultValue) to.value = input.value;
    }
    for (const d of old.querySelectorAll("details[id]")) {
      const to = holder.content.getElementById(d.id);
      if (to) to.open = d.open;
    }
    old.replaceWith(fresh);
    if (window.htmx) window.htmx.process(fresh);
    offerCopies(fresh);
    if (focus) {
      const to = document.getElementById(focus.id);
      if (to) {
        to.focus({ preventScroll: true });
        if (to.setSelectionRange && focus.start != null) to.setSelectionRange(focus.start, focus.end);
      }
    }
  }

  const maxLines = 5000; // what a browser shows of a log without effort

  // Lines of a section go on in its fold, so that the log does not grow by noise.
  function append(log, html) {
    const follow = log.closest(".logcard")?.querySelector("[data-follow] input");
    const holder = document.createElement("template");
    holder.innerHTML = html;
    for (const el of [...holder.content.children]) {
      const last = log.lastElementChild;
      if (el.dataset.k && last?.matches("details.fold") && last.dataset.k === el.dataset.k) {
        const more = el.matches("details") ? [...el.children].filter((x) => x.localName !== "summary") : [el];
        last.append(...more);
        last.querySelector(".count").textContent = last.childElementCount - 1;
      } else log.append(el);
    }
    for (let extra = log.childElementCount - maxLines; extra > 0; extra--) log.firstElementChild.remove();
    if (!follow || follow.checked) log.scrollTop = log.scrollHeight;
    const card = log.closest("[hidden]");
    if (card) card.hidden = false;
  }

  // Whoever scrolls up wants to read; whoever is back at the end, to follow. What
  // append moves is at the end again before its event comes.
  for (const box of document.querySelectorAll("[data-follow]")) {
    const log = box.closest(".logcard").querySelector(".log");
    const input = box.querySelector("input");
    box.hidden = false;
    input.addEventListener("change", () => { if (input.checked) log.scrollTop = log.scrollHeight; });
    let top = 0;
    log.addEventListener("scroll", () => {
      if (log.scrollHeight - log.scrollTop - log.clientHeight < 40) input.checked = true;
      else if (log.scrollTop < top) input.checked = false;
      top = log.scrollTop;
    });
  }

  // Addresses of lines: one that is on the page is gone to and marked; any other
  // is asked for.
  function mark(id) {
    const line = document.getElementById(id);
    if (!line?.closest(".log")) return false;
    for (const was of document.querySelectorAll(".log .at")) was.classList.remove("at");
    line.classList.add("at");
    const fold = line.closest("details");
    if (fold) fold.open = true;
    line.scrollIntoView({ block: "center" });
    return true;
  }
  document.addEventListener("click", (e) => {
    const a = e.target.closest?.(".log a.n, .found a");
    if (!a || e.ctrlKey || e.metaKey || e.shiftKey || e.button !== 0) return;
    if (mark(a.hash.slice(1))) {
      e.preventDefault();
      history.replaceState(null, "", a.href);
    }
  });
  document.addEventListener("submit", (e) => {
    if (!e.target.matches?.("[data-line]")) return;
    const id = `${e.target.elements.log.value}-L${e.target.elements.at.value}`;
    if (mark(id)) {
      e.preventDefault();
      history.replaceState(null, "", `?log=${e.target.elements.log.value}&at=${e.target.elements.at.value}#${id}`);
    }
  });
  const asked = /^#(plan|apply)-L(\d+)$/.exec(location.hash);
  if (asked && !mark(location.hash.slice(1)) && !new URLSearchParams(location.search).has("at")) {
    location.replace(`?log=${asked[1]}&at=${asked[2]}${location.hash}`);
  }

  // A page with data-events listens to what happens. The browser connects
  // again by itself and says what it has seen (Last-Event-ID).
  for (const page of document.querySelectorAll("[data-events]")) {
    for (const el of page.querySelectorAll("[data-without-events]")) el.hidden = true;
    for (const log of page.querySelectorAll(".log")) if (!log.querySelector(".at")) log.scrollTop = log.scrollHeight;
    const state = page.querySelector("[data-live]");
    const say = (text) => { if (state) state.textContent = text; };
    const events = new EventSource(page.dataset.events);
    events.onopen = () => say("");
    events.onerror = () => {
      say(events.readyState === EventSource.CLOSED ? "Live updates have ended. Reload the page to see what is new." : "The connection was lost. Connecting again…");
    };
    events.addEventListener("region", (e) => swap(e.data));
    for (const phase of ["plan", "apply"]) {
      events.addEventListener(phase, (e) => {
        const log = document.getElementById("log-" + phase);
        if (log) append(log, e.data);
      });
    }
    events.addEventListener("end", () => { events.close(); say(""); });
    addEventListener("pagehide", () => events.close());
  }
})();
