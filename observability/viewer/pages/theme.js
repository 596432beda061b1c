// Light or dark: by the system's setting, until the reader chooses. Not a module, so that it is known before the page is painted.
{
  const KEY = "clearspan.theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const read = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // a browser may forbid it
    }
  };
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    const toggle = document.createElement("button");
    toggle.type = "button";
    toggle.className = "theme";
    const name = () => {
      toggle.textContent = dark() ? "☀" : "☾";
      toggle.title = toggle.ariaLabel = dark() ? "Light" : "Dark";
    };
    toggle.addEventListener("click", () => {
      const theme = dark() ? "light" : "dark";
      // What the system has anyway is not kept, so that the page follows it again.
      const own = (theme === "dark") !== system.matches;
      apply(own ? theme : null);
      try {
        if (own) localStorage.setItem(KEY, theme);
        else localStorage.removeItem(KEY);
      } catch { /* then for this page only */ }
      name();
    });
    system.addEventListener("change", name);
    name();
    document.querySelector("header")?.append(toggle);
  });
  window.addEventListener("storage", (event) => event.key === KEY && apply(event.newValue));
}
