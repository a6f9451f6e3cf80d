// Runs before the page is painted: marks that scripts work and applies the chosen theme.
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");

  function stored() {
    try { return localStorage.getItem("segbench-theme"); } catch (error) { return null; }
  }
  function store(value) {
    try { localStorage.setItem("segbench-theme", value); } catch (error) { return; }
  }
  function isDark() {
    var chosen = root.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  var chosen = stored();
  if (chosen === "dark" || chosen === "light") { root.dataset.theme = chosen; }
  window.segbench = { isDark: isDark };

  document.addEventListener("DOMContentLoaded", function () {
    var button = document.getElementById("theme");
    function label() { button.textContent = isDark() ? "Light theme" : "Dark theme"; }
    function announce() {
      label();
      document.dispatchEvent(new CustomEvent("themechange"));
    }
    button.addEventListener("click", function () {
      root.dataset.theme = isDark() ? "light" : "dark";
      store(root.dataset.theme);
      announce();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", announce);
    label();
  });
})();
