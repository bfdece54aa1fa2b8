// TensorBoard tells plugins of no colours: these are its own, given out in its own order.

export const LIGHT = ["#425066", "#12b5cb", "#e52592", "#f9ab00", "#9334e6", "#7cb342", "#e8710a"];
const SLATE_IN_THE_DARK = "#8e98a3";

export function colourOf(place: number, isDark: boolean): string {
  const colour = LIGHT[place % LIGHT.length] as string;
  return isDark && colour === LIGHT[0] ? SLATE_IN_THE_DARK : colour;
}
