/*
 * What libssl calls instead of BIO_ctrl: kernel TLS is never available.
 *
 * Distributions compile kernel TLS into libssl, which then asks each write BIO whether
 * the kernel encrypts for it. The worker's BIO callback answers 1 to every control, so
 * libssl would allocate no write buffer and dereference NULL in the first DTLS flight.
 */
#include <openssl/bio.h>

/* The controls that <openssl/bio.h> keeps to itself, by the numbers in its comments. */
enum
{
	SET_KTLS = 72,
	SET_KTLS_TX_SEND_CTRL_MSG = 74,
	CLEAR_KTLS_TX_CTRL_MSG = 75
};

long voice_room_bio_ctrl(BIO *bio, int command, long larg, void *parg);

long voice_room_bio_ctrl(BIO *bio, int command, long larg, void *parg)
{
	switch (command)
	{
		case SET_KTLS:
		case BIO_CTRL_GET_KTLS_SEND:
		case SET_KTLS_TX_SEND_CTRL_MSG:
		case CLEAR_KTLS_TX_CTRL_MSG:
		case BIO_CTRL_GET_KTLS_RECV:
			return 0;

		default:
			return BIO_ctrl(bio, command, larg, parg);
	}
}
