// A click on a drawn figure (or Enter, when it has the focus) shows it as large as the window; another, or Escape,
// closes it.
const makeZoomable = () => {
  const dialog = document.createElement("dialog");
  dialog.className = "zoom";
  dialog.setAttribute("aria-label", "Enlarged figure");
  dialog.addEventListener("click", () => dialog.close());
  // The theme keeps Escape for its search box, so the browser's own way to close a dialog does not come through.
  dialog.addEventListener("keydown", (event) => event.key === "Escape" && dialog.close());
  document.body.append(dialog);
  document.querySelectorAll("figure.drawn svg[role=img]").forEach((figure) => {
    const open = () => {
      dialog.replaceChildren(figure.cloneNode(true));
      dialog.showModal();
    };
    figure.setAttribute("tabindex", "0");
    figure.addEventListener("click", open);
    figure.addEventListener("keydown", (event) => event.key === "Enter" && open());
  });
};

// The theme's arrows that unfold a part of the contents have no words for a screen reader.
const nameArrows = () => {
  document.querySelectorAll("nav summary").forEach((arrow) => {
    const chapter = arrow.closest("li")?.querySelector("a");
    arrow.setAttribute("aria-label", `Pages below ${chapter ? chapter.textContent.trim() : "this"}`);
  });
};

// The references say that they are a list, but not that what they hold are its items.
const unlistReferences = () => {
  document.querySelectorAll(".citation-list").forEach((list) => list.removeAttribute("role"));
};

window.addEventListener("DOMContentLoaded", () => {
  unlistReferences();
  makeZoomable();
  nameArrows();
});
