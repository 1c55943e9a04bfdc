"""The project's Jupyter settings: `make lab` reads them instead of those in the home.

What JupyterLab itself writes lies beside this file and is ignored by git.
"""

c = get_config()  # noqa: F821 (given by Jupyter)

# encrypt messages to kernels that can, without a warning from each kernel
c.KernelManager.transport_encryption = "auto"
# no search for language servers, which runs npm, which writes to the home
c.LanguageServerManager.autodetect = False
