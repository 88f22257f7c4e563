// Opens pages of Airflow in place of the frame that it shows this page in. Its sandbox forbids the frame to do so; a link
// of the page around it, which has the same origin, may. Outside a frame the browser follows the link itself.
"use strict";

for (const link of document.querySelectorAll('a[target="_top"]')) {
  link.addEventListener("click", (event) => {
    if (window.parent === window || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const outside = window.parent.document.createElement("a");
    outside.href = link.href;
    window.parent.document.body.append(outside);
    outside.click();
    outside.remove();
  });
}
