"""Every door that lets text or bytes in, and inputs that nobody would send by mistake: no crash, no hang, no heap of memory."""
