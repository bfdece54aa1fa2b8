// Longer explanations, as they stand in the documentation.

export const HELP: Record<string, string[]> = {};
