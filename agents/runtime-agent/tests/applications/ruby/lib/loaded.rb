$loaded = true
