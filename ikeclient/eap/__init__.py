"""The EAP peer, sans-IO: requests of the gateway come in, responses, a session key or an error come out.

`peer.EapPeer` owns what RFC 3748 says about every conversation: identity, notification, refusing a method,
duplicates, success and failure. A method (`method.Method`) sees nothing but its own requests. The caller must not pass
anything in before the gateway's certificate and AUTH payload have been verified (RFC 7296 section 2.16): from here on
the password is at stake.
"""
