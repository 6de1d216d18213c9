// Light or dark: the system's choice until the button, or ?theme=dark in the address, says otherwise.

const theme = {
  root: document.documentElement,
  button: document.getElementById("theme"),
  system: matchMedia("(prefers-color-scheme: dark)"),
  /** The theme in force. */
  now() {
    return this.root.dataset.theme || (this.system.matches ? "dark" : "light");
  },
  /** Takes a theme, or the system's if none is given. */
  set(name) {
    if (name) this.root.dataset.theme = name;
    else delete this.root.dataset.theme;
    this.changed();
  },
  changed() {
    const other = this.now() === "dark" ? "Light" : "Dark";
    this.button.textContent = other;
    this.button.setAttribute("aria-label", `Change to the ${other.toLowerCase()} theme`);
    colours.known.clear();
    dispatchEvent(new Event("theme"));
  },
};

theme.button.hidden = false;
theme.button.addEventListener("click", () => theme.set(theme.now() === "dark" ? "light" : "dark"));
theme.system.addEventListener("change", () => theme.changed());
{
  const asked = new URLSearchParams(location.search).get("theme");
  theme.set(asked === "dark" || asked === "light" ? asked : undefined);
  // Paper is white: canvases are drawn again in the light theme for it.
  let before;
  addEventListener("beforeprint", () => {
    before = theme.root.dataset.theme;
    theme.set("light");
  });
  addEventListener("afterprint", () => theme.set(before));
}
