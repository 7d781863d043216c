// The smallest program that stays: it waits for a signal. Linked without libc and
// loader, so that ten thousand of them cost the machine little.
extern "C" [[noreturn]] void _start() {
    for (;;) {
#if defined(__x86_64__)
        long number = 34;
        asm volatile("syscall" : "+a"(number) : : "rcx", "r11", "memory");
#elif defined(__aarch64__)
        // ppoll of nothing, without a timeout.
        register long number asm("x8") = 73;
        register long fds asm("x0") = 0;
        register long count asm("x1") = 0;
        register long timeout asm("x2") = 0;
        register long mask asm("x3") = 0;
        asm volatile("svc 0"
                     : "+r"(fds)
                     : "r"(number), "r"(count), "r"(timeout), "r"(mask)
                     : "memory");
#else
#error "write pause() for this architecture"
#endif
    }
}
