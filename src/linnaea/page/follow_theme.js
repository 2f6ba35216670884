(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => document.querySelectorAll(".js-plotly-plot").forEach(plot => Plotly.relayout(plot, {
    "font.color": getComputedStyle(document.body).color, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)"
  }));
  dark.addEventListener("change", paint); paint();
})();