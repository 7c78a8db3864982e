// The theme gives its search button a name that lacks the keys written on it; without that, the text is the name.
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll(".search-button-field")) button.removeAttribute("aria-label");
});
