"""A parser with a fault that lies deep: one in 2^32 inputs of four bytes has it."""


def hidden(content: bytes) -> int:
    left = 1
    if content[:1] == b"F":
        left += 1
        if content[1:2] == b"u":
            left += 1
            if content[2:3] == b"z":
                left += 1
                if content[3:4] == b"z":
                    left = 0
    return 1 // left
