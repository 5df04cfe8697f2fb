/** Twelve hexadecimal digits for a name that nobody else can guess. */
export function randomSuffix(): string {
  return [...crypto.getRandomValues(new Uint8Array(6))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}
