"""The vocabulary of DeepMind's Perceiver AR for bytes: 256 values behind three markers.

Source: perceiver-ar `dataset.RESERVED_TOKENS`.
Differs: `text.ByteTokenizer`, the vocabulary of Perceiver IO, has six special tokens.
"""

PAD_ID, EOS_ID, SOS_ID = 0, 1, 2
FIRST_VALUE_ID = 3
"""stands for the byte 0"""
VOCAB_SIZE = FIRST_VALUE_ID + 256
