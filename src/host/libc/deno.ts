import { libraryName, type RawLibc } from "./raw.ts";

interface Signature {
  readonly name?: string;
  readonly parameters: readonly ("i32" | "u32" | "i64" | "usize" | "buffer")[];
  readonly result: "i32" | "pointer";
}

type Argument = number | bigint | Uint8Array;

/** The part of Deno that is used here; its own types are not installed. */
interface DenoFfi {
  dlopen(
    name: string,
    symbols: Readonly<Record<string, Signature>>,
  ): { readonly symbols: Readonly<Record<string, (...values: readonly Argument[]) => unknown>> };
  readonly UnsafePointerView: new (pointer: unknown) => { getInt32(): number };
}

/** Opens the C library by Deno's FFI (`--allow-ffi`); `undefined` where Deno does not run. */
export function openDeno(): RawLibc | undefined {
  const deno = (globalThis as { readonly Deno?: DenoFfi }).Deno;
  if (deno === undefined) return undefined;
  const { symbols } = deno.dlopen(libraryName, {
    __errno_location: { parameters: [], result: "pointer" },
    fcntl: { parameters: ["i32", "i32", "buffer"], result: "i32" },
    fcntlValue: { name: "fcntl", parameters: ["i32", "i32", "i64"], result: "i32" },
    flock: { parameters: ["i32", "i32"], result: "i32" },
    syscall: { parameters: ["i64", "i32", "buffer", "i32", "buffer", "u32"], result: "i32" },
    ioctl: { parameters: ["i32", "usize", "buffer"], result: "i32" },
    flistxattr: { parameters: ["i32", "buffer", "usize"], result: "i32" },
    fgetxattr: { parameters: ["i32", "buffer", "buffer", "usize"], result: "i32" },
    fsetxattr: { parameters: ["i32", "buffer", "buffer", "usize", "i32"], result: "i32" },
    fremovexattr: { parameters: ["i32", "buffer"], result: "i32" },
  });
  const call = (name: string) => {
    const symbol = symbols[name];
    if (symbol === undefined) throw new TypeError(`no such function: ${name}`);
    return (...values: readonly Argument[]): number => Number(symbol(...values));
  };
  const place = symbols["__errno_location"];
  if (place === undefined) throw new TypeError("errno has no place");
  const { UnsafePointerView } = deno;
  return {
    errno: () => new UnsafePointerView(place()).getInt32(),
    fcntlValue: call("fcntlValue"),
    fcntlPointer: call("fcntl"),
    flock: call("flock"),
    syscallPaths: call("syscall"),
    ioctl: call("ioctl"),
    flistxattr: call("flistxattr"),
    fgetxattr: call("fgetxattr"),
    fsetxattr: call("fsetxattr"),
    fremovexattr: call("fremovexattr"),
  };
}
