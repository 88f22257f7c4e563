// Reloads a page that shows work in progress, until the reader pauses it. Without it the page is reloaded by hand.
"use strict";

const line = document.querySelector("[data-reload]");
if (line) {
  const seconds = Number(line.dataset.reload);
  const button = document.createElement("button");
  let timer = null;
  const toggle = () => {
    clearTimeout(timer);
    timer = timer === null ? setTimeout(() => location.reload(), 1000 * seconds) : null;
    button.textContent = timer === null ? `Reload every ${seconds} s` : "Pause reloading";
  };
  button.type = "button";
  button.className = "plain";
  button.addEventListener("click", toggle);
  toggle();
  line.append(button);
}
