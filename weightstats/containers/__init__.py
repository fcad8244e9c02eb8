"""How files lay out what they hold, in place: archives, messages, trees and pickles, one module a container."""
