"""The networks: weights, backbone, classifier, detector. Arrays in, arrays out; Ray is not known here."""
