# How cmake builds the JPEG coder for ARMv6; given by scripts/armv6.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv6l)
set(CMAKE_C_COMPILER arm-linux-gnueabi-gcc)
# The compiler could make NEON code, the processor could not run it.
set(WITH_SIMD OFF CACHE BOOL "" FORCE)
