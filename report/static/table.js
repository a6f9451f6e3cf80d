// Sort, search, column groups and export for the tables that the page already holds.
(function () {
  "use strict";
  var state = window.segbench.state;

  function each(nodes, visit) { Array.prototype.forEach.call(nodes, visit); }
  function normal(text) { return text.toLowerCase().replace(/\s+/g, " ").trim(); }

  function Board(table) {
    this.table = table;
    this.id = table.dataset.board;
    this.heads = table.tHead.rows[1].cells;
    this.bar = document.querySelector('.toolbar[data-for="' + this.id + '"]');
    this.search = this.bar.querySelector("input");
    this.said = this.bar.querySelector(".said");
    this.nothing = table.closest(".board").querySelector(".nothing");
    this.hidden = {};
    this.sorted = null;
    this.order = Array.prototype.map.call(table.tBodies, function (body) {
      return Array.prototype.slice.call(body.rows);
    });
    this.build();
    this.restore();
  }

  Board.prototype.build = function () {
    var board = this;
    each(board.heads, function (head) {
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = head.firstChild.textContent;
      head.replaceChild(button, head.firstChild);
      button.addEventListener("click", function () { board.sort(board.next(head)); board.save(); });
    });
    each(board.table.tHead.rows[0].querySelectorAll("[data-group]"), function (head) {
      board.addToggle(head.dataset.group);
    });
    board.search.addEventListener("input", function () { board.filter(); board.save(); });
    board.nothing.querySelector(".clear").addEventListener("click", function () {
      board.search.value = "";
      board.filter();
      board.save();
      board.search.focus();
    });
    each(board.bar.querySelectorAll("[data-export]"), function (button) {
      button.addEventListener("click", function () { board.share(button.dataset.export); });
    });
  };

  Board.prototype.addToggle = function (group) {
    var board = this;
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = group;
    button.dataset.toggle = group;
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", function () {
      board.show(group, Boolean(board.hidden[group]));
      board.save();
    });
    board.bar.querySelector(".toggles").appendChild(button);
  };

  // The primary score stays: a leaderboard without it ranks by something invisible.
  Board.prototype.show = function (group, visible) {
    var board = this;
    if (visible) { delete board.hidden[group]; } else { board.hidden[group] = true; }
    var button = board.bar.querySelector('[data-toggle="' + CSS.escape(group) + '"]');
    if (!button) { return; }
    button.setAttribute("aria-pressed", String(visible));
    var shown = 0;
    each(board.heads, function (head, index) {
      if (head.dataset.group !== group) { return; }
      var hide = !visible && index !== 2;
      shown += hide ? 0 : 1;
      each(board.table.tBodies, function (body) {
        each(body.rows, function (row) { row.cells[index].hidden = hide; });
      });
      head.hidden = hide;
    });
    each(board.table.tHead.rows[0].querySelectorAll("[data-group]"), function (head) {
      if (head.dataset.group !== group) { return; }
      head.hidden = shown === 0;
      head.colSpan = Math.max(shown, 1);
    });
  };

  Board.prototype.next = function (head) {
    var first = head.dataset.first;
    var other = first === "ascending" ? "descending" : "ascending";
    return { key: head.dataset.key, order: head.getAttribute("aria-sort") === first ? other : first };
  };

  // Cells without a number stay last in both directions; controls stay in their own body.
  Board.prototype.sort = function (wish) {
    var board = this;
    var index = -1;
    each(board.heads, function (head, i) {
      head.removeAttribute("aria-sort");
      if (wish && head.dataset.key === wish.key) { index = i; }
    });
    if (index < 0) { return; }
    board.sorted = wish;
    board.heads[index].setAttribute("aria-sort", wish.order);
    var sign = wish.order === "ascending" ? 1 : -1;
    each(board.table.tBodies, function (body, b) {
      var keyed = board.order[b].map(function (row, i) {
        var raw = row.cells[index].dataset.v;
        var number = Number(raw);
        return { row: row, i: i, missing: raw === undefined || raw === "", v: isNaN(number) ? raw : number };
      });
      keyed.sort(function (a, c) {
        if (a.missing || c.missing) { return a.missing - c.missing || a.i - c.i; }
        if (a.v === c.v) { return a.i - c.i; }
        return (a.v < c.v ? -1 : 1) * sign;
      });
      keyed.forEach(function (item) { body.appendChild(item.row); });
    });
  };

  Board.prototype.filter = function () {
    var board = this;
    var words = normal(board.search.value).split(" ");
    var found = 0;
    each(board.table.tBodies, function (body) {
      each(body.rows, function (row) {
        var text = findable(row);
        var hit = words.every(function (word) { return text.indexOf(word) >= 0; });
        row.hidden = !hit;
        found += hit ? 1 : 0;
      });
    });
    board.nothing.hidden = found > 0;
    board.said.textContent = board.search.value ? found + (found === 1 ? " row" : " rows") : "";
  };

  // What a row shows: words for screen readers alone would be found in every row.
  function findable(row) {
    if (row.findable === undefined) {
      var copy = row.cloneNode(true);
      each(copy.querySelectorAll(".vh"), function (node) { node.remove(); });
      row.findable = normal(copy.textContent);
    }
    return row.findable;
  }

  Board.prototype.save = function () {
    var changes = {};
    var sorted = this.sorted;
    changes[this.id + ".sort"] = sorted ? (sorted.order === "descending" ? "-" : "") + sorted.key : "";
    changes[this.id + ".find"] = this.search.value;
    changes[this.id + ".hide"] = Object.keys(this.hidden).sort().join(",");
    state.write(changes);
  };

  Board.prototype.restore = function () {
    var board = this;
    var params = state.read();
    var sort = params.get(board.id + ".sort");
    if (sort) {
      var down = sort.charAt(0) === "-";
      board.sort({ key: down ? sort.slice(1) : sort, order: down ? "descending" : "ascending" });
    } else {
      board.heads[0].setAttribute("aria-sort", "ascending");
    }
    (params.get(board.id + ".hide") || "").split(",").filter(Boolean).forEach(function (group) {
      board.show(group, false);
    });
    board.search.value = params.get(board.id + ".find") || "";
    if (board.search.value) { board.filter(); }
  };

  // The rows and columns on the screen, as arrays of text.
  Board.prototype.view = function () {
    function texts(cells) {
      return Array.prototype.filter.call(cells, function (cell) { return !cell.hidden; }).map(shown);
    }
    var lines = [texts(this.heads)];
    each(this.table.tBodies, function (body) {
      each(body.rows, function (row) { if (!row.hidden) { lines.push(texts(row.cells)); } });
    });
    return lines;
  };

  function shown(cell) {
    var copy = cell.cloneNode(true);
    each(copy.querySelectorAll(".vh, .sub"), function (node) { node.remove(); });
    return copy.textContent.replace(/\s+/g, " ").trim();
  }

  Board.prototype.share = function (kind) {
    if (kind === "link") { state.write({ at: this.id }); }
    var view = this.view();
    var text = { csv: csv, latex: latex, link: function () { return location.href; } }[kind](view);
    window.segbench.copy(text, this.said);
  };

  function csv(lines) {
    return lines.map(function (line) {
      return line.map(function (text) {
        // A leading = + - @ would be run as a formula by spreadsheets.
        var safe = /^\s*[=+\-@\t\r\n＝＋－＠]/.test(text) && isNaN(Number(text)) ? "'" + text : text;
        return /[",\r\n]/.test(safe) ? '"' + safe.replace(/"/g, '""') + '"' : safe;
      }).join(",");
    }).join("\n") + "\n";
  }

  function latex(lines) {
    function line(cells) { return "  " + cells.map(escapeLatex).join(" & ") + " \\\\"; }
    var columns = "rl" + "r".repeat(Math.max(lines[0].length - 2, 0));
    return ["\\begin{tabular}{" + columns + "}", "  \\toprule", line(lines[0]), "  \\midrule"]
      .concat(lines.slice(1).map(line), ["  \\bottomrule", "\\end{tabular}", ""]).join("\n");
  }

  function escapeLatex(text) {
    return text.replace(/\\/g, "\\textbackslash ").replace(/[&%$#_{}]/g, "\\$&")
      .replace(/~/g, "\\textasciitilde ").replace(/\^/g, "\\textasciicircum ")
      .replace(/±/g, "$\\pm$").replace(/–/g, "--");
  }

  each(document.querySelectorAll("table[data-board]"), function (table) { new Board(table); });

  each(document.querySelectorAll(".pareto"), function (figure) {
    var key = figure.dataset.board + ".x";
    var wanted = state.read().get(key);
    each(figure.querySelectorAll("input"), function (input) {
      if (input.value === wanted) { input.checked = true; }
      input.addEventListener("change", function () { state.write(Object.fromEntries([[key, input.value]])); });
    });
  });

  var at = state.read().get("at");
  var target = at && document.getElementById(at);
  if (target) { target.scrollIntoView(); }
})();
