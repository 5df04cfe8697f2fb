/** A node's share of a span, the same each time, and spread evenly over the nodes' names (FNV-1a). */
export function shareOf(name: string, spanMs: number): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  // Names that differ at their end only differ in the low bits.
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) >>> 0;
  hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39) >>> 0;
  hash = (hash ^ (hash >>> 15)) >>> 0;
  return Math.floor((hash / 2 ** 32) * spanMs);
}
