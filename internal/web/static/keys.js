/* Interlock: the shortcuts of the keyboard. The list in web/ui/layout.templ says
   what they do; links that g leads to bear their key. */
"use strict";

(() => {
  const list = document.getElementById("shortcuts");
  if (!list) return;
  const store = "interlock.shortcuts";
  const box = list.querySelector("[data-shortcuts-on]");
  // Single keys get in the way of those who speak to their computer: they can be
  // switched off.
  let on = true;
  try { on = localStorage.getItem(store) !== "off"; } catch { /* it may keep nothing */ }
  box.checked = on;
  box.addEventListener("change", () => {
    on = box.checked;
    try { localStorage.setItem(store, on ? "on" : "off"); } catch { /* for this page only */ }
  });
  for (const b of document.querySelectorAll("[data-shortcuts]")) {
    b.hidden = false;
    b.addEventListener("click", () => list.showModal());
  }

  const writes = (e) => e.matches?.("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
  let went = -Infinity; // when g was pressed, after the page began

  // The change before or after the one that has the focus.
  function step(by) {
    const all = [...document.querySelectorAll("#change-list .change > summary")];
    if (all.length === 0) return false;
    const at = all.indexOf(document.activeElement);
    const to = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by];
    if (!to) return true;
    to.focus();
    to.scrollIntoView({ block: "nearest" });
    return true;
  }

  document.addEventListener("keydown", (e) => {
    if (!on || e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || e.isComposing || writes(e.target) || list.open) return;
    if (e.timeStamp - went < 1500) {
      went = -Infinity;
      const link = /^[a-z]$/.test(e.key) && document.querySelector(`a[data-key="${e.key}"]`);
      if (link) {
        e.preventDefault();
        link.click();
      }
      return;
    }
    switch (e.key) {
      case "g":
        went = e.timeStamp;
        return;
      case "?":
        list.showModal();
        break;
      case "/": {
        const find = document.querySelector("main [role=search] input:not([type=hidden])");
        if (!find) return;
        find.focus();
        find.select?.();
        break;
      }
      case "j":
      case "k":
        if (!step(e.key === "j" ? 1 : -1)) return;
        break;
      default:
        return;
    }
    e.preventDefault();
  });
})();
