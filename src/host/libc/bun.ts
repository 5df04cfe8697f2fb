import { libraryName, type RawLibc } from "./raw.ts";

/** Opens the C library by Bun's FFI; throws what Bun throws when it cannot. */
export async function openBun(): Promise<RawLibc> {
  // Deno rejects a static import of "bun:".
  const ffi = await import("bun:ffi");
  const { symbols } = ffi.dlopen(libraryName, {
    __errno_location: { args: [], returns: "ptr" },
    fcntl: { args: ["i32", "i32", "ptr"], returns: "i32" },
    flock: { args: ["i32", "i32"], returns: "i32" },
    syscall: { args: ["i64", "i32", "ptr", "i32", "ptr", "u32"], returns: "i32" },
    ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
    // Sizes fit 32 bits: the kernel bounds an attribute, and a list of them, to 64 KiB (xattr(7)).
    flistxattr: { args: ["i32", "ptr", "u64"], returns: "i32" },
    fgetxattr: { args: ["i32", "ptr", "ptr", "u64"], returns: "i32" },
    fsetxattr: { args: ["i32", "ptr", "ptr", "u64", "i32"], returns: "i32" },
    fremovexattr: { args: ["i32", "ptr"], returns: "i32" },
  });
  const errno = () => {
    const place = symbols.__errno_location();
    if (place === null) throw new TypeError("errno has no place");
    return ffi.read.i32(place, 0);
  };
  return {
    errno,
    // A pointer is passed as the number that it is, and this one leads nowhere: a second function costs time.
    fcntlValue: (fd, command, value) =>
      symbols.fcntl(fd, command, value as Parameters<typeof symbols.fcntl>[2]),
    fcntlPointer: symbols.fcntl,
    flock: symbols.flock,
    syscallPaths: symbols.syscall,
    ioctl: symbols.ioctl,
    flistxattr: symbols.flistxattr,
    fgetxattr: symbols.fgetxattr,
    fsetxattr: symbols.fsetxattr,
    fremovexattr: symbols.fremovexattr,
  };
}
