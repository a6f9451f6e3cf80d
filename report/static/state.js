// The state of a view lives in the hash as "#a=1&b=2", so that every view is an address.
(function () {
  "use strict";
  function read() {
    var hash = location.hash.slice(1);
    return new URLSearchParams(hash.indexOf("=") < 0 ? "" : hash);
  }
  // An empty value removes the key: the default view has no hash.
  function write(changes) {
    var params = read();
    Object.keys(changes).forEach(function (key) {
      var value = changes[key];
      if (value === "" || value === null) { params.delete(key); } else { params.set(key, value); }
    });
    params.sort();
    var hash = params.toString();
    history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
  }
  function copy(text, output) {
    function say(message) {
      output.textContent = message;
      setTimeout(function () { output.textContent = ""; }, 4000);
    }
    navigator.clipboard.writeText(text).then(
      function () { say("Copied"); },
      function () { say("The browser refused to copy"); }
    );
  }
  window.segbench.state = { read: read, write: write };
  window.segbench.copy = copy;
})();
