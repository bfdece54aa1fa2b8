declare module "plotly.js-gl3d-dist-min" {
  const Plotly: {
    newPlot(element: HTMLElement, data: object[], layout: object, config: object): Promise<unknown>;
  };
  export default Plotly;
}
