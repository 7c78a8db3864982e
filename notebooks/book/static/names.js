// Roles and names that theme and docutils write, and that a screen reader would be misled by.
document.addEventListener("DOMContentLoaded", () => {
  // the name lacks the keys written on the button; without it, the text is the name
  for (const button of document.querySelectorAll(".search-button-field")) button.removeAttribute("aria-label");
  // references are entries of a bibliography, which a list may not hold
  for (const list of document.querySelectorAll(".citation-list")) list.removeAttribute("role");
});

// the theme's arrows that unfold the pages below a page have no name, either
document.addEventListener("DOMContentLoaded", () => {
  for (const arrow of document.querySelectorAll("details > summary")) {
    const page = arrow.closest("li")?.querySelector("a");
    if (!arrow.textContent.trim() && page) arrow.setAttribute("aria-label", `Pages below: ${page.textContent.trim()}`);
  }
});
