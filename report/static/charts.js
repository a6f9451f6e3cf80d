// Replaces the static pictures of charts by interactive ones when they come into view.
(function () {
  "use strict";
  var holder = document.getElementById("charts-data");
  var data = JSON.parse(holder.textContent);
  var places = Array.prototype.slice.call(document.querySelectorAll("[data-chart]"));
  var root = document.querySelector('link[rel="stylesheet"]').getAttribute("href").replace("style.css", "");
  var loading = null;
  var drawn = [];

  function load() {
    loading = loading || new Promise(function (resolve, reject) {
      var script = document.createElement("script");
      script.src = root + "vega.js";
      script.onload = resolve;
      script.onerror = reject;
      document.head.appendChild(script);
    });
    return loading;
  }

  // Specifications hold the light colours; the dark theme is the same text with others.
  function themed(spec) {
    var text = JSON.stringify(spec);
    if (window.segbench.isDark()) {
      Object.keys(data.theme).forEach(function (light) { text = text.split(light).join(data.theme[light]); });
    }
    return JSON.parse(text);
  }

  function draw(place) {
    var picture = place.querySelector("img");
    var box = document.createElement("div");
    box.className = "drawn";
    place.appendChild(box);
    var spec = themed(data.charts[place.dataset.chart]);
    return window.vegaEmbed(box, spec, { actions: false, renderer: "svg" }).then(function (result) {
      if (place.drawn) { place.drawn.result.finalize(); place.drawn.box.remove(); }
      place.drawn = { result: result, box: box };
      box.setAttribute("role", "img");
      box.setAttribute("aria-label", picture.alt);
      picture.hidden = true;
      place.dataset.ready = "true";
    }, function () { box.remove(); });
  }

  function show(place) {
    if (drawn.indexOf(place) >= 0) { return; }
    drawn.push(place);
    load().then(function () { return draw(place); }, function () { return null; });
  }

  var watcher = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) { if (entry.isIntersecting) { show(entry.target); } });
  }, { rootMargin: "300px" });
  places.forEach(function (place) { watcher.observe(place); });
  document.addEventListener("themechange", function () {
    if (loading) { loading.then(function () { drawn.forEach(draw); }, function () { return null; }); }
  });
})();
