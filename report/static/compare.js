// Two to four models on one image; the table below holds the same pictures without scripts.
(function () {
  "use strict";
  var state = window.segbench.state;
  var data = JSON.parse(document.getElementById("compare-data").textContent);
  var bench = document.querySelector(".bench");
  if (!data.images.length || !data.models.length) { return; }
  bench.hidden = false;

  var select = bench.querySelector(".image-choice");
  var slider = bench.querySelector(".opacity");
  var value = bench.querySelector(".opacity-value");
  var panels = bench.querySelector(".panels");
  var views = Array.prototype.slice.call(bench.querySelectorAll("input[name=view]"));
  var picks = Array.prototype.slice.call(bench.querySelectorAll(".pick input"));
  var least = Math.min(2, picks.length);

  function view() { return views.filter(function (input) { return input.checked; })[0].value; }
  function chosen() { return picks.filter(function (input) { return input.checked; }); }

  function picture(src, alt, className, image) {
    var img = document.createElement("img");
    img.src = "../" + src;
    img.alt = alt;
    img.className = className;
    img.width = image.width;
    img.height = image.height;
    return img;
  }

  function panel(image, name, layer, score, href) {
    var figure = document.createElement("figure");
    var tile = document.createElement("span");
    tile.className = "tile";
    tile.appendChild(picture(image.photo, name + " on " + image.name, "", image));
    if (layer) { tile.appendChild(picture(layer, "", "layer", image)); }
    var caption = document.createElement("figcaption");
    var label = document.createElement(href ? "a" : "span");
    label.textContent = name;
    if (href) { label.href = href; }
    caption.appendChild(label);
    if (score) { caption.appendChild(document.createTextNode(" " + score)); }
    figure.append(tile, caption);
    return figure;
  }

  function show() {
    var image = data.images[select.selectedIndex];
    panels.replaceChildren();
    if (image.truth) { panels.appendChild(panel(image, "Truth", image.truth, "", "")); }
    chosen().forEach(function (input) {
      var model = data.models[Number(input.value)];
      var found = image.models[model.slug];
      if (!found) { return; }
      var layer = found[view()];
      panels.appendChild(panel(image, model.name, layer, data.metric + " " + found.score, "../runs/" + model.slug + ".html"));
    });
    var count = chosen().length;
    picks.forEach(function (input) {
      input.disabled = input.checked ? count <= least : count >= 4;
    });
  }

  function fade() {
    document.documentElement.style.setProperty("--opacity", slider.value / 100);
    value.textContent = slider.value + " %";
  }

  function save() {
    state.write({
      image: select.selectedIndex ? data.images[select.selectedIndex].key : "",
      models: chosen().map(function (input) { return data.models[Number(input.value)].slug; }).join(","),
      view: view() === "prediction" ? "" : view(),
      opacity: slider.value === "70" ? "" : slider.value
    });
  }

  function move(by) {
    select.selectedIndex = (select.selectedIndex + by + data.images.length) % data.images.length;
    show();
    save();
  }

  function restore() {
    var params = state.read();
    var at = data.images.findIndex(function (image) { return image.key === params.get("image"); });
    select.selectedIndex = Math.max(at, 0);
    var wanted = (params.get("models") || "").split(",").filter(function (slug) {
      return data.models.some(function (model) { return model.slug === slug; });
    }).slice(0, 4);
    if (wanted.length >= least) {
      picks.forEach(function (input) {
        input.checked = wanted.indexOf(data.models[Number(input.value)].slug) >= 0;
      });
    }
    views.forEach(function (input) { input.checked = input.value === (params.get("view") || "prediction"); });
    if (!views.some(function (input) { return input.checked; })) { views[0].checked = true; }
    slider.value = params.get("opacity") || "70";
    fade();
    show();
  }

  bench.querySelector(".previous").addEventListener("click", function () { move(-1); });
  bench.querySelector(".next").addEventListener("click", function () { move(1); });
  slider.addEventListener("input", function () { fade(); save(); });
  [select].concat(views, picks).forEach(function (input) {
    input.addEventListener("change", function () { show(); save(); });
  });
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) { return; }
    if (event.target.matches("input, select, textarea, [role=region]")) { return; }
    if (event.key === "ArrowLeft") { move(-1); }
    else if (event.key === "ArrowRight") { move(1); }
    else { return; }
    event.preventDefault();
  });
  window.addEventListener("hashchange", restore);
  restore();
})();
