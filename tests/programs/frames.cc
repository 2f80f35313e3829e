// C++ frames with something to destroy, which a call of C is made through.

static int destroyed;

struct Guard {
    ~Guard() { destroyed++; }
};

static void inner(void (*call)())
{
    Guard guard;
    try {
        call();
    } catch (...) {
        // The forced unwind of pthread_cancel may be caught, if only to be thrown on.
        destroyed += 10;
        throw;
    }
}

extern "C" void through_frames(void (*call)())
{
    Guard guard;
    inner(call);
}

extern "C" int frames_destroyed() { return destroyed; }
