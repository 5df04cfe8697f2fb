import type { webcrypto } from "node:crypto";

/** Every runtime has it without loading anything; to load `node:crypto` takes 2 ms. */
const { crypto } = globalThis as unknown as { readonly crypto: webcrypto.Crypto };

/** Twelve hexadecimal digits for a name that nobody else can guess. */
export function randomSuffix(): string {
  return [...crypto.getRandomValues(new Uint8Array(6))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

/** A name that nothing else has had or will have. */
export function randomUUID(): string {
  return crypto.randomUUID();
}
