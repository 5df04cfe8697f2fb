/** A file, or with a name that ends in a slash a folder, of an archive. Owned by root, of no date. */
export interface Entry {
  readonly name: string;
  readonly mode: number;
  readonly bytes?: Buffer;
}

const block = 512;

/**
 * Entries in the ustar format of POSIX.1-2017 (pax), without the two empty blocks that end an archive, so that more
 * may follow: see `end`. The same entries are always the same bytes.
 */
export function tar(entries: readonly Entry[]): Buffer {
  return Buffer.concat(
    entries.flatMap((entry) => {
      const bytes = entry.bytes ?? Buffer.alloc(0);
      return [header(entry, bytes.length), bytes, Buffer.alloc(-bytes.length & (block - 1))];
    }),
  );
}

/** What ends an archive. */
export const end = Buffer.alloc(2 * block);

function header(entry: Entry, size: number): Buffer {
  if (Buffer.byteLength(entry.name) > 100) throw new Error(`this name is too long for ustar: ${entry.name}`);
  const bytes = Buffer.alloc(block);
  const octal = (value: number, at: number, length: number) =>
    bytes.write(value.toString(8).padStart(length - 1, "0"), at, "latin1");
  bytes.write(entry.name, 0);
  octal(entry.mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  bytes.fill(" ", 148, 156);
  bytes.write(entry.name.endsWith("/") ? "5" : "0", 156, "latin1");
  bytes.write("ustar\x0000", 257, "latin1");
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return bytes;
}
