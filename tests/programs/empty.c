// Does nothing: what is left of its run is the start of a process.
int main(void) { return 0; }
