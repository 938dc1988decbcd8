# SPDX-License-Identifier: MIT
# What `make install` puts where.
