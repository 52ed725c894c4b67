"""Images through spatially varying kernels, and back. Knows no system and no lens: everything is made of tensors.

    blur = PatchBlur(kernels, size=(1024, 1024))     # kernels [rows, columns, C, k, k]
    seen = blur(image)                               # [B, C, 1024, 1024], linear light
    back = richardson_lucy(blur, seen, iterations=20)

An image [B, C, H, W] has its top row first. A kernel [k, k] has the top (y up) first as well, its origin is pixel k // 2, and the light of a
point is spread by it: a convolution. Field places are (x right, y up) in [-1, 1], which are the edges of the image.
"""
