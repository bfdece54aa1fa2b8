// A surface in three dimensions, by plotly.

import Plotly from "plotly.js-gl3d-dist-min";

globalThis.hessianSurface = {
  draw(element, { x, y, z }, isDark) {
    const ink = isDark ? "#ddd" : "#333";
    const paper = isDark ? "#303030" : "#fff";
    const axis = (title: string) => ({ title: { text: title }, color: ink, gridcolor: ink });
    void Plotly.newPlot(
      element,
      [{ type: "surface", x, y, z, colorscale: "Viridis", showscale: false }],
      {
        margin: { l: 0, r: 0, t: 0, b: 0 },
        paper_bgcolor: paper,
        height: 420,
        scene: {
          xaxis: axis("along u"),
          yaxis: axis("along v"),
          zaxis: axis("loss"),
          camera: { eye: { x: 1.7, y: 1.7, z: 1 } },
        },
      },
      { displaylogo: false, responsive: true },
    );
  },
};
