"""The classic OCR calls: a picture in, its text and boxes out."""
