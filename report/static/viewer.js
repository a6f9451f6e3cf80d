// The large viewer above a gallery: one image, four views, an opacity slider, arrow keys.
(function () {
  "use strict";
  var state = window.segbench.state;
  var items = Array.prototype.slice.call(document.querySelectorAll(".gallery > li"));
  var stage = document.querySelector(".stage");
  if (!items.length) { return; }
  stage.hidden = false;

  var picture = stage.querySelector(".stage-picture");
  var title = stage.querySelector(".stage-title");
  var slider = stage.querySelector(".opacity");
  var value = stage.querySelector(".opacity-value");
  var views = Array.prototype.slice.call(stage.querySelectorAll("input[name=view]"));
  var position = 0;

  function view() { return views.filter(function (input) { return input.checked; })[0].value; }

  function show() {
    var item = items[position];
    var figure = item.querySelector('[data-view="' + view() + '"]');
    picture.replaceChildren();
    if (figure) {
      var tile = figure.querySelector(".tile").cloneNode(true);
      tile.querySelectorAll("img").forEach(function (img) { img.loading = "eager"; });
      picture.appendChild(tile);
    } else {
      picture.textContent = "There is no such view of this image.";
    }
    title.textContent = item.dataset.name + ", " + item.querySelector(".score").textContent +
      " (" + (position + 1) + " of " + items.length + " on this page)";
    items.forEach(function (other) { other.classList.toggle("current", other === item); });
  }

  function fade() {
    document.documentElement.style.setProperty("--opacity", slider.value / 100);
    value.textContent = slider.value + " %";
  }

  function save() {
    state.write({
      image: items[position].id,
      view: view() === "prediction" ? "" : view(),
      opacity: slider.value === "70" ? "" : slider.value
    });
  }

  function move(by) {
    position = (position + by + items.length) % items.length;
    show();
    save();
  }

  function restore() {
    var params = state.read();
    var wanted = params.get("image") || location.hash.slice(1);
    var found = items.findIndex(function (item) { return item.id === wanted; });
    position = Math.max(found, 0);
    views.forEach(function (input) {
      input.checked = input.value === (params.get("view") || "prediction");
    });
    if (!views.some(function (input) { return input.checked; })) { views[2].checked = true; }
    slider.value = params.get("opacity") || "70";
    fade();
    show();
  }

  stage.querySelector(".previous").addEventListener("click", function () { move(-1); });
  stage.querySelector(".next").addEventListener("click", function () { move(1); });
  slider.addEventListener("input", function () { fade(); save(); });
  views.forEach(function (input) { input.addEventListener("change", function () { show(); save(); }); });
  items.forEach(function (item, index) {
    item.querySelector(".open").addEventListener("click", function () {
      position = index;
      show();
      save();
      stage.scrollIntoView();
      picture.focus({ preventScroll: true });
    });
  });

  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) { return; }
    // Arrow keys keep their own meaning in the slider, the radio buttons and scroll boxes.
    if (event.target.matches("input, select, textarea, [role=region]")) { return; }
    var number = "1234".indexOf(event.key);
    if (event.key === "ArrowLeft") { move(-1); }
    else if (event.key === "ArrowRight") { move(1); }
    else if (number >= 0 && views[number]) { views[number].checked = true; show(); save(); }
    else if (event.key === "+" || event.key === "-") {
      slider.value = Number(slider.value) + (event.key === "+" ? 10 : -10);
      fade();
      save();
    } else { return; }
    event.preventDefault();
  });
  window.addEventListener("hashchange", restore);
  restore();
})();
